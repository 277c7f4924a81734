"""Small models in standard architectures, really trained on EmojiScenes, so that everything can be shown offline."""
