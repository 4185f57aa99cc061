"""The web interface: `app.py` is the script that Streamlit runs, each page is a file of its own.

Streamlit puts this directory before the standard library's on the import path, so no file here may be named like
a module of it.
"""
