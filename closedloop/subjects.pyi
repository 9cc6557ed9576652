from subjects import *
