import pathlib
import sys

# The client of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "src"))
