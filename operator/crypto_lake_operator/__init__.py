"""The control plane of crypto-lake: CryptoLake resources in, running lakes out."""
