"""What the platform is made of, and what is wrong with it: bill of materials, licences, known
vulnerabilities, secrets that were left in the tree.

Run by scripts/lint, and by the last step of the image.
"""
