"""The Compare page: setting up comparisons, their progress and results, beside the published comparison."""
