"""One update of four other TRPOs, stage by stage, against ours and the paper's.

Each library runs its own code on the same batch in its own environment
(`sb3_contrib.py`, `tianshou.py`, `skrl.py`, `omnisafe.py`: NumPy, PyTorch, the library
and nothing of ours); `reference.py` computes the same stages in NumPy.
"""
