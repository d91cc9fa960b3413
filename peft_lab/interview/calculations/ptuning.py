"""P-Tuning: the encoder that exists in training only, and what is left of it."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, line, plain, result, share, tex, widest_kv

SINGLE = 4  # bytes of float32


def stored(case: Case) -> Answer:
    """Parameters in the saved prompt, without the encoder that made it."""
    shape, n = case.shape, case["n"]
    value = case.stored("ptuning", num_virtual_tokens=n)
    trained = case.trained("ptuning", num_virtual_tokens=n)
    steps = [line(rf"n \cdot d = {n} \cdot {tex(shape.hidden)} = {tex(value)}")]
    return result(
        value, "parameters", steps,
        (trained, "that the encoder is thrown away after training"),
        (trained - value, "the tokens: it is the encoder that goes"),
        (2 * shape.num_layers * shape.kv_width * n, "that version 1 acts at the input only"),
        named={"bytes": plain(value * SINGLE / 1e6), "trained": plain(trained)},
        wholes=beside(case),
    )  # fmt: skip


def mlp(case: Case) -> Answer:
    """Parameters that are trained with an MLP of a given width."""
    d, n, h = case.shape.hidden, case["n"], case["width"]
    value = case.trained("ptuning", num_virtual_tokens=n, encoder_hidden_size=h)
    steps = [
        line(rf"n\,d = {n} \cdot {tex(d)} = {tex(n * d)}"),
        line(
            rf"(d\,h + h) + (h^2 + h) + (h\,d + d) = {tex(d * h + h)} + {tex(h * h + h)} + {tex(h * d + d)}"
        ),
        line(rf"\text{{together}}: {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (n * d, "the encoder, which is trained as well"),
        (value - n * d, "the table that goes into the encoder"),
        (value - h * h - h, "that the MLP has three linear layers"),
        (value - 2 * h - d, "the biases"),
        tolerance=0.0005,
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def default_width(case: Case) -> Answer:
    """Parameters that are trained with an MLP as wide as the model."""
    d, n = case.shape.hidden, case["n"]
    value = case.trained("ptuning", num_virtual_tokens=n)
    steps = [
        line(rf"h = d: \quad n\,d + 3\,(d^2 + d) = {tex(n * d)} + 3 \cdot {tex(d * d + d)}"),
        line(rf"= {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (n * d, "the encoder, which is trained as well"),
        (n * d + 2 * (d * d + d), "that the MLP has three linear layers"),
        tolerance=0.0005,
        named={"share": share(value, case.shape.total + value), "times": plain(value / (n * d))},
        wholes=beside(case),
    )  # fmt: skip


def lstm(case: Case) -> Answer:
    """Parameters that are trained with an LSTM in both directions."""
    d, n, layers = case.shape.hidden, case["n"], case["lstm_layers"]
    value = case.trained(
        "ptuning", num_virtual_tokens=n, encoder_reparameterization_type="LSTM", encoder_num_layers=layers
    )
    first, later = 8 * d * (2 * d + 2), 8 * d * (3 * d + 2)
    head = (4 * d * d + 2 * d) + (2 * d * d + d)
    steps = [
        line(rf"\text{{first layer}}: 2 \cdot 4 \cdot d\,(d + d + 2) = {tex(first)}"),
        line(rf"\text{{each further layer}}: 2 \cdot 4 \cdot d\,(2d + d + 2) = {tex(later)}"),
        line(rf"\text{{two linear layers}}: (4d^2 + 2d) + (2d^2 + d) = {tex(head)}"),
        line(rf"\text{{with the table}}\ {tex(n * d)}: \quad {tex(value)}"),
    ]
    recurrent = first + (layers - 1) * later
    return result(
        value, "parameters", steps,
        (value - recurrent // 2, "that the LSTM runs in both directions"),
        (value - recurrent * 3 // 4, "the four gates of an LSTM"),
        (value - head, "the two linear layers behind the LSTM"),
        (value - (layers - 1) * later, "that the LSTM has more than one layer"),
        (n * d, "the encoder, which is trained as well"),
        tolerance=0.001,
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def thrown_away(case: Case) -> Answer:
    """Percent of the trained parameters that are not saved."""
    d, n, h = case.shape.hidden, case["n"], case["width"]
    values = {"num_virtual_tokens": n, "encoder_hidden_size": h}
    trained, kept = case.trained("ptuning", **values), case.stored("ptuning", **values)
    value = 100 * (1 - kept / trained)
    steps = [
        line(rf"\text{{stored}}: {n} \cdot {tex(d)} = {tex(kept)} \qquad \text{{trained}}: {tex(trained)}"),
        line(rf"1 - {tex(kept)} / {tex(trained)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps, (100 * kept / trained, "the direction: ask what is lost, not what is kept")
    )


def deep_prompts(case: Case) -> Answer:
    """Parameters of the prompts of version 2, in every layer."""
    shape, n = case.shape, case["n"]
    value = 2 * shape.num_layers * shape.kv_width * n
    steps = [
        line(
            rf"2\,L\,d_{{kv}}\,n = 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot {n} = {tex(value)}"
        )
    ]
    return result(
        value, "parameters", steps,
        (n * shape.hidden, "that version 2 puts prompts into every layer"),
        (value // 2, "that there are keys and values"),
        (
            2 * shape.num_layers * widest_kv(case) * n,
            "grouped-query attention: keys and values are narrower than queries here",
        ),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip
