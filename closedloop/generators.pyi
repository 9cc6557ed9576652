from generators import *
