"""What a platform bears: faults under load (`scripts/chaos`), and hours of it (`scripts/soak`).

Not part of what is installed. The load is made here too, since it must tell each request's end.
"""
