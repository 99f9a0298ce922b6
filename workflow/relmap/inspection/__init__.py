"""What methods cost, where relevance leaks, and all of them side by side."""
