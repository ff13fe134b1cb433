"""Training on real data: does it help, and which loss helps more?"""
