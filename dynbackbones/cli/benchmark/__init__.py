"""``dynbackbones benchmark``: latency side by side, interleaved in one run on this machine.

options    the command line
networks   what is compared, built and treated alike
opponents  the plain network in other runtimes
report     what is printed and written
spending   a trained detector at several rates, by --calibrate
"""

from dynbackbones.cli.benchmark.command import main as main
