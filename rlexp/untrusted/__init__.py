"""What comes from outside is data: folders that somebody sent, runs that a server describes, and texts in either.

    text      what is printed or written of it: no control characters, no secrets
    stored    configurations that lie in folders: plain YAML, nothing is resolved
    modules   which modules a stored configuration may name: those of installed distributions
    links     files and folders inside a job's folder: no symbolic links
    archives  `.npz` and `.keras` files: sizes are read before anything is unpacked
    names     what a server says, before it becomes a path

A command that trains names its modules, its server and its folders itself; these rules are for those who read.
"""
