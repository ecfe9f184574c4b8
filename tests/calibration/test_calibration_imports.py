import subprocess
import sys


def test_fitting_and_measuring_need_no_keras():
    code = (
        "import sys, music_zoo.calibration as c, music_zoo.datasets, music_zoo.evaluation.metrics; "
        "heavy = {'keras', 'sklearn', 'scipy', 'matplotlib', 'librosa'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
