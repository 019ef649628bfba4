"""What any experiment needs: the door to a task, settings and command line, a run's files, its report, DD-PPO's workers."""
