"""mongoguard.yaml -> validated, frozen values. Reads text that it is given; opens nothing."""
