"""The guided tour: its page, the bar on visited pages, links to exact settings, and the editor of paths."""
