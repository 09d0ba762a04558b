"Run `ic` as `python -m image_classifier.cli`, as torchrun does."
import sys

from image_classifier.cli.app import main

sys.exit(main())
