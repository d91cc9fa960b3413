"""Many learners at one server at once, each speaking Streamlit's WebSocket protocol as a browser does.

``python -m bench.load http://localhost:8501 --code blue-whale`` joins a class and prints what its learners waited for.
"""
