"""From Gymnasium's spaces to the sizes, heads and first weights of networks."""
