"""Credentials taken out of documents before they leave the machine."""
