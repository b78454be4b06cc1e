"""mongoguard.yaml -> validated, frozen values. Only loading.py opens files."""
