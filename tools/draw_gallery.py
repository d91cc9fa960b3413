"""Write the block drawing of every model with every method, to look at: ``python -m tools.draw_gallery OUT``.

With ``--shots`` each page is also photographed (light and dark) by a headless Chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peft_lab.core import palette
from peft_lab.core.errors import PeftLabError
from peft_lab.drawing.block import draw_block
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "lora": (
        {},
        {"r": 1, "target_modules": ("all-linear",)},
        {"r": 256, "use_dora": True, "target_modules": ("all-linear",)},
    ),
    "prefix": ({}, {"prefix_projection": True}, {"num_virtual_tokens": 1}),
    "prompt": ({}, {"num_virtual_tokens": 1}, {"num_virtual_tokens": 100}),
    "ptuning": ({}, {"encoder_reparameterization_type": "LSTM", "num_virtual_tokens": 4}),
    "adapters": (
        {"placement": "houlsby"},
        {"placement": "pfeiffer", "bottleneck": 8},
        {"placement": "parallel"},
        {"placement": "seq_bn"},
        {"placement": "par_bn"},
    ),
}
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body {{ color-scheme: light dark; font: 13px sans-serif; margin: 16px; background: {page};
color: {ink}; width: 1110px }}
section {{ display: flex; gap: 24px; align-items: start; margin-bottom: 28px }}
.w {{ width: 720px }} .n {{ width: 350px }} h2 {{ font-size: 14px; margin: 4px 0 }}</style>{body}"""


def pages() -> dict[str, str]:
    """HTML by file name: one page per method and model."""
    found = {}
    for slug, method in all_methods().items():
        for name, entry in catalogue().items():
            body = []
            for settings in VARIANTS.get(slug, ({},)):
                try:
                    values = method.complete(entry.shape, settings)
                    parts = method.parts(entry.shape, values)
                    quantization = method.quantization(values)
                except PeftLabError as error:
                    body.append(f"<h2>{slug} {name} {settings}</h2><p>{error}</p>")
                    continue
                wide = draw_block(entry.shape, parts, quantized=quantization)
                narrow = draw_block(entry.shape, parts, quantized=quantization, layout="narrow")
                body.append(
                    f'<h2>{slug}, {name}, {settings}</h2><section><div class="w">{wide.svg}</div>'
                    f'<div class="n">{narrow.svg}</div></section><p>{wide.description}</p>'
                )
            found[f"{slug}-{name}.html"] = PAGE.format(
                page=palette.PAGE.css, ink=palette.INK.css, title=f"{slug} {name}", body="".join(body)
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--shots", nargs="*", metavar="PAGE", help="photograph these pages (file name without .html)"
    )
    parser.add_argument("--chromium", help="executable to photograph with")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, html in pages().items():
        (options.out / name).write_text(html, "utf-8")
    if options.shots:
        photograph(options.out, options.shots, options.chromium)


def photograph(folder: Path, names: list[str], chromium: str | None) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 1142, "height": 700})
            for name in names:
                page.goto((folder / f"{name}.html").resolve().as_uri())
                page.screenshot(path=str(folder / f"{name}-{scheme}.png"), full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
