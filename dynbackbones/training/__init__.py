"""What training needs around any framework: losses, policy learning, folders and files of a run."""
