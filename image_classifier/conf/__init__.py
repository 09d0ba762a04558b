"The Hydra groups of a run; Hydra looks for this file before it reads them."
