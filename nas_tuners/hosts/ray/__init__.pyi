from nas_tuners.hosts.ray.searcher import RaySearcher as RaySearcher
