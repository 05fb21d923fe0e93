"""``python -m vidrestore``"""

from vidrestore.cli import main

main()
