"""The living block: what it sends to the browser, its CSS, and the ES module that plays it there."""
