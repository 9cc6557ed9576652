from closedloop.subjects import GaborSubject
from closedloop.testing import SubjectContract
class TestGabor(SubjectContract):
    def make(self):
        return GaborSubject()
