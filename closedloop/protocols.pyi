from protocols import *
from protocols import Explanation as Explanation
from protocols import LayerSurvey as LayerSurvey
from protocols import Study as Study
from protocols import Survey as Survey
from protocols import at_field as at_field
from protocols import check_width as check_width
from protocols import stored_reference as stored_reference
from protocols import study_of as study_of
from protocols import sweep_costs as sweep_costs
from protocols import sweep_work as sweep_work
from protocols import why_closed as why_closed
