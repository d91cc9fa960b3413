"""The living block's HTML before anything is drawn in it; ``js/block.js`` fills it."""

TINTS = ("forward", "backward", "trained")
HTML = (
    '<div class="host"><p class="words"></p><p class="spoken" aria-live="polite"></p>'
    '<div class="tools" hidden></div>'
    f'<div class="tints">{"".join(f"""<span class="tint-{name}"></span>""" for name in TINTS)}</div>'
    '<div class="pictures"><div class="wide"></div><div class="narrow"></div><canvas class="motion"></canvas></div>'
    '<div class="under" hidden></div><div class="panel" role="status" hidden></div></div>'
)
