"""What there is, as rows without torch: methods, metrics, data sets, models, papers; and the plan that follows."""
