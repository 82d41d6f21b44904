"""The tandem: a front on Lambda that answers at once, and a GPU service behind it that does so faster when it is awake.

`rules` say when the front believes the GPU service ready, `lookout` asks it, `forwarding` sends requests there, and
`principal` is how it knows that they come from the front. docs/tandem.md tells the whole story.
"""
