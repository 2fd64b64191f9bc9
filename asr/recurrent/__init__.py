"""The recurrent networks of the lectures: cells, trainers, initialisers (docs/recurrent.md)."""
