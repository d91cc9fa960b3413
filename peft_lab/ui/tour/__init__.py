"""The guided tour: its page, the bar on visited pages, links into exact settings, and making a path."""
