"""What Streamlit runs for each visit and each change. The page itself is a module, which stays loaded."""

import sys

from crypto_lake.dashboard.page import show
from crypto_lake.dashboard.serve import settings_of

if __name__ == "__main__":
    show(settings_of(sys.argv[1:]))
