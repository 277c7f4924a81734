"""The screens of the app, one file each; `app.py` routes to them."""
