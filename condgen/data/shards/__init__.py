"""Sets larger than memory or disk: tar files in the layout of WebDataset, with an index that knows where each image lies."""

from condgen.data.shards.images import ShardImages
from condgen.data.shards.index import Index, Shard
from condgen.data.shards.store import Store

__all__ = ["Index", "Shard", "ShardImages", "Store"]
