# CPU image of PEFT Lab; also what a Hugging Face Docker Space runs (it expects port 7860 and a user of its own).
#   docker build -t peft-lab . && docker run --rm -p 7860:7860 peft-lab        then open http://localhost:7860
FROM python:3.12-slim

RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 learner
USER learner
WORKDIR /home/learner/peft-lab
COPY --chown=learner . .

# The same two commands as everywhere: `make fetch` installs and brings weights and sentences, `make app` starts.
# Torch's CPU wheels need no CUDA libraries; the index is only asked while the image is built.
# What else the image holds: --build-arg EXTRAS=cluster for sweeps on Ray (compose.yaml).
ARG EXTRAS=""
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PEFT_LAB_HOME=/home/learner/lab
RUN make fetch && if [ -n "$EXTRAS" ]; then .venv/bin/python -m pip install ".[$EXTRAS]" -c constraints.txt; fi

ENV STREAMLIT_SERVER_ADDRESS=0.0.0.0 PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD .venv/bin/python -c "from urllib.request import urlopen; urlopen('http://localhost:7860/_stcore/health')"
CMD ["make", "app"]
