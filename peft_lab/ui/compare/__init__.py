"""The Compare page: what to compare, how far it is, and what it shows, beside the published comparison."""
