"""Other libraries' names over ours: `compat.pylate.Index`, `compat.fastembed.Muvera`."""
