"""For any experiment: the door to a task, settings, command line, a run's files, its report, DD-PPO's workers."""
