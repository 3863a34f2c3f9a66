"""A task whose model is one long vector, and training adds a number to all of it."""


def task_of(parameters: int) -> str:
    return f"""
import numpy as np
from learning_tasks.seam import Evaluated, Trained

def initial_weights(seed):
    return {{"w": np.zeros({parameters}, np.float32)}}

def load_data(data_dir, client, purpose):
    return float(len(client))

def train(weights, data, training, seed, progress):
    return Trained({{"w": weights["w"] + np.float32(data)}}, 1, {{}})

def evaluate(weights, data):
    return Evaluated(1, {{}}, None)
"""
