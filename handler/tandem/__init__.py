"""The tandem: a front on Lambda that answers at once, and a GPU service behind it that does so faster when it is awake.

By its `rules` the front knows when to believe that, its `lookout` asks, and `forwarding` sends requests `upstream`,
each in an `exchange`. `principal` is how the service knows who asks. docs/tandem.md tells the whole story.
"""
