"""The commands that bring engines up, ours and others', and take them down; and the settings.

command.py   `up`, `down`, `config`, `warm`
serve.py     `serve`
certs.py     `certs`
options.py   options that several of them share
"""
