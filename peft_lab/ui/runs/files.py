"""Data of one's own that is kept here: uploads, and rows out of the hub; each can be removed."""

from __future__ import annotations

import time

import streamlit as st

from peft_lab import units
from peft_lab.classroom import limits
from peft_lab.errors import PeftLabError
from peft_lab.tasks import kept_files
from peft_lab.tasks.kept_files import KeptFile
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain


def own_files() -> None:
    """What is kept, how long, and a way to remove it; nothing where there is nothing."""
    found = kept_files.kept_files()
    if not found:
        return
    st.markdown("## Your data")
    st.markdown(
        f"Files that you uploaded or fetched, {units.size(sum(each.nbytes for each in found))} in all. Every run has a "
        f"copy of its own, so removing one changes no run. {_kept()}"
    )
    with st.expander(f"{len(found)} file{'' if len(found) == 1 else 's'}"):
        shown = [(plain(each.title), each.origin, units.size(each.nbytes), _day(each)) for each in found]
        figures.table(("File", "How it came", "Size", "Last brought"), shown, numeric=(2,), fold=True)
        chosen = st.multiselect(
            "Remove", found, format_func=lambda each: f"{each.title}, {_day(each)}", key="own-files-chosen",
            placeholder="the files to remove",
        )  # fmt: skip
        if st.button("Remove them", disabled=not chosen, key="own-files-remove"):
            try:
                for each in chosen:
                    kept_files.remove(each.path)
            except PeftLabError as error:
                st.error(plain(error))
                return
            st.rerun()


def _kept() -> str:
    """For how long files stay where nobody removes them."""
    found = limits.of_asker()
    if found is not None:
        return f"In this class files are removed {found.days} days after they were brought."
    return (
        f"Rows out of the hub that were not asked for in {limits.limits().days} days go when others are fetched; "
        "uploads stay."
    )


def _day(each: KeptFile) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(each.used))
