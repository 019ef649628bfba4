"""What reproduce.py needs: runs, their measures, the paper's claims as tests of hypotheses, tables and pictures."""
