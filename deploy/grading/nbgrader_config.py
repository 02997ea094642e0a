"""What nbgrader is told about a class. `scripts/make_assignments.py` puts a copy beside the assignments:
change the copy, it is never overwritten."""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821, given by nbgrader
here = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "embedding-models"
c.CourseDirectory.root = str(here)

# nbgrader calls alembic, which is installed beside it, by its name alone.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# The cells run in the course's environment, whatever kernel a handed-in notebook names.
os.environ["JUPYTER_PATH"] = os.pathsep.join(
    [str(here / "jupyter"), *filter(None, [os.environ.get("JUPYTER_PATH")])]
)
c.Execute.kernel_name = "embedding-models-course"

c.Execute.timeout = 120  # seconds for one cell; then it is interrupted and counts as wrong
c.OverwriteCells.add_missing_cells = True  # a check that was deleted comes back
c.ClearSolutions.code_stub = {"python": ""}  # the starting code stands above the solution already

# A late answer is shown as late and graded like any other. With "zero" it gets no points.
c.LateSubmissionPlugin.penalty_method = "none"

# The folder through which one server's users fetch and submit; not needed when files are handed out.
# c.Exchange.root = "/srv/nbgrader/exchange"
