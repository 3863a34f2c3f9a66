"""The program on the device: `session.py` decides, `agent.py` does, `trainer.py` trains."""
