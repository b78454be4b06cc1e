"""WHAT MAY YOU DO: roles and decisions. Knows privileges; knows no command and no message."""
