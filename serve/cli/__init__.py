"""The command `strata`: one module a command; heavy libraries are imported where they are used."""
