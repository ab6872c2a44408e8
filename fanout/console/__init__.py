"""The control room in a browser: pages, their live parts, signing in. Presses go to the API as everybody's do."""
