"""Takes one file out of a wheel: `unpack.py OUT WHEEL MEMBER`."""

import shutil
import sys
import zipfile


def main(destination, wheel, member):
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise SystemExit("error: `%s` is not in the package" % member)
        with archive.open(member) as source, open(destination, "wb") as file:
            shutil.copyfileobj(source, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
