from tests.nas_tuners.conftest import nas

__all__ = ["nas"]
